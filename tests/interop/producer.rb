# The classic producer: publishes each line of standard input to /queue/graphite. It asks for no receipt, and
# leaves without saying so.
#
#   ruby producer.rb HOST PORT < LINES
require 'stomp'

host, port = ARGV
client = Stomp::Client.new('', '', host, port.to_i)
STDIN.each_line(chomp: true) { |line| client.publish('/queue/graphite', line) }
