"""One session of stomp.py. What the client heard is printed, as JSON: a list of [event, headers, body].

    python session.py SCENARIO VERSION HOST PORT [ARGUMENT...]
"""
import json
import sys
import threading
import time

import stomp

QUEUE = "/queue/graphite"
LIMIT_SECONDS = 60


class Recorder(stomp.ConnectionListener):
    """Keeps what comes, and lets the scenario wait for it."""

    def __init__(self):
        self.heard = []
        self.changed = threading.Condition()

    def hear(self, event, frame=None):
        with self.changed:
            self.heard.append([event, frame.headers, frame.body] if frame else [event, {}, None])
            self.changed.notify_all()

    def wait(self, event, count=1):
        def come():
            return sum(heard[0] == event for heard in self.heard) >= count

        with self.changed:
            if not self.changed.wait_for(come, LIMIT_SECONDS):
                sys.exit(f"waited in vain for {count} of {event}, heard: {self.heard}")

    def on_connected(self, frame):
        self.hear("connected", frame)

    def on_receipt(self, frame):
        self.hear("receipt", frame)

    def on_error(self, frame):
        self.hear("error", frame)

    def on_heartbeat(self):
        self.hear("heart-beat")

    def on_heartbeat_timeout(self):
        self.hear("heart-beat timeout")

    def on_disconnected(self):
        self.hear("disconnected")


def receipts(connection, recorder):
    """All of standard input, a message for each line, in flight together; two lines share a body at the end."""
    lines = sys.stdin.read().splitlines()
    bodies = lines[:-2] + ["\n".join(lines[-2:])]
    for number, body in enumerate(bodies):
        connection.send(QUEUE, body, receipt=f"line-{number}")
    connection.disconnect(receipt="bye")
    recorder.wait("receipt", len(bodies) + 1)
    recorder.wait("disconnected")


def transactions(connection, recorder):
    """The first half of standard input is committed, the second half is aborted; both are open together."""
    lines = sys.stdin.read().splitlines()
    half = len(lines) // 2
    for transaction, part in ("kept", lines[:half]), ("dropped", lines[half:]):
        connection.begin(transaction, receipt=f"begin-{transaction}")
        for number, line in enumerate(part):
            connection.send(QUEUE, line, transaction=transaction, receipt=f"{transaction}-{number}")
    connection.abort("dropped", receipt="abort")
    connection.commit("kept", receipt="commit")
    recorder.wait("receipt", len(lines) + 4)


def beats(connection, recorder, seconds):
    """Says nothing but heart-beats for so long, and until three have come; then sends standard input."""
    time.sleep(int(seconds))
    recorder.wait("heart-beat", 3)
    connection.send(QUEUE, sys.stdin.read(), receipt="awake")
    recorder.wait("receipt")


def subscribe(connection, recorder):
    connection.subscribe(QUEUE, id="1", receipt="asked")
    recorder.wait("error")
    recorder.wait("disconnected")


def send(connection, recorder, destination):
    """Standard input goes to any destination, and is refused."""
    connection.send(destination, sys.stdin.read(), receipt="asked")
    recorder.wait("error")
    recorder.wait("disconnected")


SCENARIOS = [receipts, transactions, beats, subscribe, send]
# On a busy machine what is late is not missing.
BEATS = {"heartbeats": (1000, 1000), "heart_beat_receive_scale": 10}
CONNECTIONS = {
    "1.0": stomp.StompConnection10,
    "1.1": lambda place: stomp.StompConnection11(place, **BEATS),
    "1.2": lambda place: stomp.StompConnection12(place, **BEATS),
}

scenario, version, host, port, *arguments = sys.argv[1:]
connection = CONNECTIONS[version]([(host, int(port))])
recorder = Recorder()
connection.set_listener("", recorder)
connection.connect(wait=True)
next(known for known in SCENARIOS if known.__name__ == scenario)(connection, recorder, *arguments)
print(json.dumps(recorder.heard))
