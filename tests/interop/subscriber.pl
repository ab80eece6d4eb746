# Subscribes to /queue/graphite of an agent, and prints each line that it gets. As subscriber.rb, where the
# arguments are explained; Net::Stomp has no heart-beats.
#
#   perl subscriber.pl HOST PORT VERSION ACK WHAT COUNT
use strict;
use warnings;
use FindBin;
use Net::Stomp;
use POSIX ();
require "$FindBin::Bin/place.pl";

my ($host, $port, $version, $ack, $what, $count) = @ARGV;
my $stomp = Net::Stomp->new(place($host, $port));
my $asked = $version eq '1.0' ? {} : { 'accept-version' => $version, host => $host };
my $connected = $stomp->connect($asked);
die "no CONNECTED of $version" unless $connected->command eq 'CONNECTED' && $connected->headers->{version} eq $version;
$stomp->subscribe({ id => 'graphite', destination => '/queue/graphite', ack => $ack });
my ($messages, $lines) = (0, 0);
while ($lines < $count) {
    my $frame = $stomp->receive_frame or die 'the connection has ended';
    die $frame->as_string unless $frame->command eq 'MESSAGE';
    my $again = ($frame->headers->{redelivered} // '') eq 'true';
    my @body = split /\n/, $frame->body;
    print $again ? 'again' : 'new', " $_\n" for @body;
    # Net::Stomp adds message-id by itself.
    my $name = { frame => $frame, subscription => 'graphite' };
    $name->{id} = $frame->headers->{ack} if $version eq '1.2' && $ack ne 'auto';
    if ($what eq 'refuse' && !$again) {
        $stomp->nack($name);
        next;
    }
    $messages++;
    $lines += @body;
    next if $what eq 'leave' || $ack eq 'auto';
    $stomp->ack($name) if $ack ne 'client' || $messages % 5 == 0 || $lines >= $count;
}
if ($what eq 'leave') {
    STDOUT->flush;
    POSIX::_exit(0);
}
$stomp->disconnect;
