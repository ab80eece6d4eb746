# Where a client connects to. As place.rb, where the environment is explained.
use strict;
use warnings;

sub place {
    my ($host, $port) = @_;
    my $place = { hostname => $host, port => $port };
    return $place unless $ENV{STOMP_CA};
    my $tls = { SSL_ca_file => $ENV{STOMP_CA}, SSL_verifycn_scheme => 'default' };
    @$tls{qw(SSL_cert_file SSL_key_file)} = @ENV{qw(STOMP_CERT STOMP_KEY)} if $ENV{STOMP_CERT};
    return { %$place, ssl => 1, ssl_options => $tls };
}

1;
