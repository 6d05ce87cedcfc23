region "local" {}

mail {
  relay = "localhost:25"
  from  = "kinetic@example.org"
}

customer "acme" {
  region = region.local

  key "a" {
    salted_sha256 = "change-me"
    expires       = "2027-02-30"
  }
}
