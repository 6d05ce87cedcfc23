region "local" {}

tokens {
  ttl = "1m"
}
