"""Sends each line of standard input to /queue/graphite.

    python producer.py HOST PORT < LINES
"""
import sys

import stomp
from place import secure

host, port = sys.argv[1:]
place = (host, int(port))
connection = stomp.Connection([place])
secure(connection, place)
connection.connect(wait=True)
for line in sys.stdin:
    connection.send("/queue/graphite", line.rstrip("\n"))
connection.disconnect()
