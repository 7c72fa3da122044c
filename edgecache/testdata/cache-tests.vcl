# Varnish for `make cache-tests PEER=varnish`: as it is by itself, but for the
# freshness and grace (-t, default_grace) that it would give of its own accord.
vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "8000"; }
