customer "globex" {
  region    = region["eu-central.hetzner"]
  netblocks = ["203.0.113.128/25"]

  key "2026-a" {
    salted_sha256 = "899e6c774fe6ae1bd397d68b149f8a86069f5e6806a937d7d0b2f31830c48008b268bda0"
    expires       = "2027-06-30"
  }
}
