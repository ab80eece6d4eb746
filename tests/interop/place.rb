# Where a client connects to. Over TLS, if STOMP_CA names the authority that it believes; STOMP_CERT and STOMP_KEY
# are then what it shows of itself, if it does.
require 'stomp'

def place(host, port)
  place = { login: '', passcode: '', host: host, port: port.to_i }
  return place unless ENV['STOMP_CA']
  raise 'ruby-stomp reads RSA keys only' if ENV['STOMP_KEY']
  place.merge(ssl: Stomp::SSLParams.new(ts_files: ENV['STOMP_CA'], use_ruby_ciphers: true))
end
