"""Sends each line of standard input to /queue/graphite.

    python producer.py HOST PORT < LINES
"""
import sys

import stomp

host, port = sys.argv[1:]
connection = stomp.Connection([(host, int(port))])
connection.connect(wait=True)
for line in sys.stdin:
    connection.send("/queue/graphite", line.rstrip("\n"))
connection.disconnect()
