# The classic producer: publishes each line of standard input to /queue/graphite. It asks for no receipt, and
# leaves without saying so.
#
#   ruby producer.rb HOST PORT < LINES
require 'stomp'
require_relative 'place'

host, port = ARGV
client = if ENV['STOMP_CA']
           Stomp::Client.new(hosts: [place(host, port)], reliable: false)
         else
           Stomp::Client.new('', '', host, port.to_i)
         end
STDIN.each_line(chomp: true) { |line| client.publish('/queue/graphite', line) }
