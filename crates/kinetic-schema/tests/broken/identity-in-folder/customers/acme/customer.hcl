customer "acme" {
  region    = region.local
  netblocks = ["203.0.113.0/24"]
}

limits {
  connections = 1000000
}

key "web" {}

user "alice" {}

tokens {
  ttl = "1m"
}

edge {
  public = customer.acme
}
