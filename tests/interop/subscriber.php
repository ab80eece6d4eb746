<?php
// Subscribes to /queue/graphite of an agent, and prints each line that it gets. As subscriber.rb, where the
// arguments are explained; PECL stomp speaks STOMP 1.0, has no NACK and no heart-beats.
//
//   php subscriber.php HOST PORT VERSION ACK WHAT COUNT
[, $host, $port, , $ack, $what, $count] = $argv;
$stomp = new Stomp("tcp://$host:$port");
$stomp->subscribe('/queue/graphite', ['ack' => $ack]);
for ($messages = $lines = 0; $lines < (int) $count;) {
    $frame = $stomp->readFrame();
    if (!$frame) {
        continue;
    }
    $again = ($frame->headers['redelivered'] ?? '') === 'true';
    $body = explode("\n", $frame->body);
    foreach ($body as $line) {
        echo $again ? 'again' : 'new', " $line\n";
    }
    $messages++;
    $lines += count($body);
    if ($what === 'leave' || $ack === 'auto') {
        continue;
    }
    if ($ack !== 'client' || $messages % 5 === 0 || $lines >= (int) $count) {
        $stomp->ack($frame);
    }
}
