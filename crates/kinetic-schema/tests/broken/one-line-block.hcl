region "local" {}

mail {
  relay = "localhost:25"
  from  = "kinetic@example.org"
}

customer "acme" {
  region = region.local

  key "a" { secret_sha256 = "00"  expires = "2027-03-01" }
}
