# Subscribes to /queue/graphite of an agent, and prints each line that it gets: `new LINE`, or `again LINE`
# where the message says that it is redelivered.
#
#   ruby subscriber.rb HOST PORT VERSION ACK take COUNT             takes so many lines
#   ruby subscriber.rb HOST PORT VERSION ACK leave COUNT            gets so many, and goes without an ACK
#   ruby subscriber.rb HOST PORT VERSION ACK refuse COUNT           NACKs what is new, takes what comes again
#   ruby subscriber.rb HOST PORT VERSION ACK beats COUNT SECONDS < LINES
#                       lives by its heart-beats for so long, then sends LINES and takes them
#
# In the mode `client` each fifth message is acknowledged, and the last one, with all before it.
require 'stomp'
require_relative 'place'

QUEUE = '/queue/graphite'
host, port, version, ack, what, count, seconds = ARGV
headers = version == '1.0' ? {} : { 'accept-version' => version, 'host' => host }
headers['heart-beat'] = '1000,1000' if what == 'beats'
connection = Stomp::Connection.new(hosts: [place(host, port)],
                                   reliable: false, connect_headers: headers)
raise "#{connection.protocol} is spoken" unless connection.protocol == version
connection.subscribe(QUEUE, { 'ack' => ack }, version == '1.0' ? nil : 'graphite')
if what == 'beats'
  sleep seconds.to_i
  sleep 0.1 until connection.hbrecv_count >= 3
  STDIN.each_line(chomp: true) { |line| connection.publish(QUEUE, line) }
end

name_of = ->(message) { message.headers[version == '1.2' ? 'ack' : 'message-id'] }
more = version == '1.1' ? { subscription: 'graphite' } : {}
messages = lines = 0
while lines < count.to_i
  message = connection.receive
  raise message.body unless message.command == 'MESSAGE'
  again = message.headers['redelivered'] == 'true'
  message.body.each_line(chomp: true) { |line| puts "#{again ? 'again' : 'new'} #{line}" }
  if what == 'refuse' && !again
    connection.nack(name_of[message], more)
    next
  end
  messages += 1
  lines += message.body.lines.count
  next if what == 'leave' || ack == 'auto'
  connection.ack(name_of[message], more) if ack != 'client' || messages % 5 == 0 || lines >= count.to_i
end
STDOUT.flush
exit! true if what == 'leave'
connection.disconnect(receipt: 'bye')
