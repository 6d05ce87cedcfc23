region "local" {}

mail {
  relay = "localhost:25"
  from  = "kinetic@example.org"
}

customer "acme" {
  region = region.local

  key "a" { salted_sha256 = "00"  expires = "2027-03-01" }
}
