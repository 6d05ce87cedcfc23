customer "shop" {
  region       = region.eu
  silent_after = "10m" # nothing at all for so long is an alert of its own

  limits {
    mails_per_hour = 40 # what is over it comes as one digest
  }

  key "2026-a" {
    salted_sha256 = "af2826b27d1f2f0e9a64a3c08d4ce0e5b2d6a58f1c9b7e3a4f6d8c2b0a1e3f5d7c9b8a60"
  }
}
