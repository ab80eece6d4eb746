"""Subscribes to QUEUE, and writes each message's body into Graphite's socket.

    python consumer.py HOST PORT QUEUE LOGIN PASSCODE GRAPHITE-HOST GRAPHITE-PORT
"""
import signal
import socket
import sys

import stomp


class ToGraphite(stomp.ConnectionListener):
    def __init__(self, graphite):
        self.graphite = graphite

    def on_message(self, frame):
        self.graphite.sendall(frame.body.encode() + b"\n")


host, port, queue, login, passcode, graphite_host, graphite_port = sys.argv[1:]
connection = stomp.Connection([(host, int(port))], heartbeats=(10_000, 10_000))
connection.set_listener("", ToGraphite(socket.create_connection((graphite_host, int(graphite_port)))))
connection.connect(login, passcode, wait=True)
connection.subscribe(queue, id="graphite")
signal.pause()
