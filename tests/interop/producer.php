<?php
// Sends each line of standard input to /queue/graphite, and waits for the receipt of each.
//
//   php producer.php HOST PORT < LINES
[, $host, $port] = $argv;
$stomp = new Stomp("tcp://$host:$port");
for ($number = 1; ($line = fgets(STDIN)) !== false; $number++) {
    if (!$stomp->send('/queue/graphite', rtrim($line, "\n"), ['receipt' => "line-$number"])) {
        fwrite(STDERR, "line $number has no receipt: {$stomp->error()}\n");
        exit(1);
    }
}
