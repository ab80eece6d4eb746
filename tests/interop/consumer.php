<?php
// Subscribes to QUEUE, writes each message's body into Graphite's socket, and acknowledges the message.
//
//   php consumer.php HOST PORT QUEUE LOGIN PASSCODE GRAPHITE-HOST GRAPHITE-PORT
[, $host, $port, $queue, $login, $passcode, $graphite_host, $graphite_port] = $argv;
$stomp = new Stomp("tcp://$host:$port", $login, $passcode);
$stomp->subscribe($queue);
$graphite = fsockopen($graphite_host, (int) $graphite_port);
while (true) {
    if ($frame = $stomp->readFrame()) {
        fwrite($graphite, "$frame->body\n");
        $stomp->ack($frame);
    }
}
