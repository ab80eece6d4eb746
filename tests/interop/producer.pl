# Sends each line of standard input to /queue/graphite.
#
#   perl producer.pl HOST PORT < LINES
use strict;
use warnings;
use FindBin;
use Net::Stomp;
require "$FindBin::Bin/place.pl";

my ($host, $port) = @ARGV;
my $stomp = Net::Stomp->new(place($host, $port));
$stomp->connect;
while (my $line = <STDIN>) {
    chomp $line;
    $stomp->send({ destination => '/queue/graphite', body => $line });
}
$stomp->disconnect;
