"""Subscribes to /queue/graphite of an agent, and prints each line that it gets. As subscriber.rb, where the
arguments are explained.

    python subscriber.py HOST PORT VERSION ACK WHAT COUNT [SECONDS]
"""
import os
import queue
import sys
import time

import stomp
from place import secure

QUEUE = "/queue/graphite"
LIMIT_SECONDS = 60


class Inbox(stomp.ConnectionListener):
    def __init__(self):
        self.messages = queue.Queue()
        self.beats = 0

    def on_message(self, frame):
        self.messages.put(frame)

    def on_heartbeat(self):
        self.beats += 1

    def on_error(self, frame):
        sys.stderr.write(frame.body)
        os._exit(1)

    def on_heartbeat_timeout(self):
        sys.stderr.write("a heart-beat is missing\n")
        os._exit(1)


host, port, version, ack, what, count, *seconds = sys.argv[1:]
place, count = (host, int(port)), int(count)
# On a busy machine what is late is not missing.
beats = {"heartbeats": (1000, 1000), "heart_beat_receive_scale": 10} if what == "beats" else {}
kinds = {"1.0": stomp.StompConnection10, "1.1": stomp.StompConnection11, "1.2": stomp.StompConnection12}
connection = kinds[version]([place], **beats)
secure(connection, place)
inbox = Inbox()
connection.set_listener("", inbox)
connection.connect(wait=True)
connection.subscribe(QUEUE, id="graphite", ack=ack)
if what == "beats":
    time.sleep(int(*seconds))
    while inbox.beats < 3:
        time.sleep(0.1)
    for line in sys.stdin:
        connection.send(QUEUE, line.rstrip("\n"))


def answer(say, frame):
    """ACK and NACK name a message differently in each version."""
    if version == "1.2":
        say(frame.headers["ack"])
    elif version == "1.1":
        say(frame.headers["message-id"], "graphite")
    else:
        say(frame.headers["message-id"])


messages = lines = 0
while lines < count:
    frame = inbox.messages.get(timeout=LIMIT_SECONDS)
    again = frame.headers.get("redelivered") == "true"
    for line in frame.body.splitlines():
        print("again" if again else "new", line)
    if what == "refuse" and not again:
        answer(connection.nack, frame)
        continue
    messages += 1
    lines += len(frame.body.splitlines())
    if what == "leave" or ack == "auto":
        continue
    if ack != "client" or messages % 5 == 0 or lines >= count:
        answer(connection.ack, frame)
sys.stdout.flush()
if what == "leave":
    os._exit(0)
connection.disconnect()
