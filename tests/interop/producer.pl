# Sends each line of standard input to /queue/graphite.
#
#   perl producer.pl HOST PORT < LINES
use strict;
use warnings;
use Net::Stomp;

my ($host, $port) = @ARGV;
my $stomp = Net::Stomp->new({ hostname => $host, port => $port });
$stomp->connect;
while (my $line = <STDIN>) {
    chomp $line;
    $stomp->send({ destination => '/queue/graphite', body => $line });
}
$stomp->disconnect;
