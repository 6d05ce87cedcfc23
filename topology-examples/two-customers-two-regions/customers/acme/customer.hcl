customer "acme" {
  region    = region["us-west.aws"]
  netblocks = ["203.0.113.0/25"]

  key "2026-a" {
    salted_sha256 = "25841bee307c609f87da43c3d563428a4f7efdf9857f4871fd10465732c4ab11a985a08c"
    expires       = "2027-06-30"
  }
}
