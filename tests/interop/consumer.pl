# Subscribes to QUEUE, prints each message's body into Graphite's socket, and acknowledges the message.
#
#   perl consumer.pl HOST PORT QUEUE LOGIN PASSCODE GRAPHITE-HOST GRAPHITE-PORT
use strict;
use warnings;
use IO::Socket::INET;
use Net::Stomp;

my ($host, $port, $queue, $login, $passcode, $graphite_host, $graphite_port) = @ARGV;
my $stomp = Net::Stomp->new({ hostname => $host, port => $port });
$stomp->connect({ login => $login, passcode => $passcode });
$stomp->subscribe({ destination => $queue, ack => 'client' });
my $graphite = IO::Socket::INET->new("$graphite_host:$graphite_port") or die "no Graphite: $!";
while (my $frame = $stomp->receive_frame) {
    print $graphite $frame->body, "\n";
    $stomp->ack({ frame => $frame });
}
