"""Where a client connects to. As place.rb, where the environment is explained."""
import os


def secure(connection, place):
    if "STOMP_CA" in os.environ:
        ca, cert, key = (os.environ.get(name) for name in ("STOMP_CA", "STOMP_CERT", "STOMP_KEY"))
        connection.set_ssl([place], ca_certs=ca, cert_file=cert, key_file=key)
