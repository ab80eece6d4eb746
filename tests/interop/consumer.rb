# The classic consumer: subscribes to QUEUE, and puts each message's body into Graphite's socket.
#
#   ruby consumer.rb HOST PORT QUEUE LOGIN PASSCODE GRAPHITE-HOST GRAPHITE-PORT
require 'socket'
require 'stomp'

host, port, queue, login, passcode, graphite_host, graphite_port = ARGV
connection = Stomp::Connection.open(login, passcode, host, port.to_i)
connection.subscribe(queue)
graphite = TCPSocket.new(graphite_host, graphite_port.to_i)
loop { graphite.puts(connection.receive.body) }
