customer "acme" {
  region = region["us-west.aws"]

  # Two keys overlap while one is rotated out.
  key "2026-a" {
    salted_sha256 = "0da029582ac1271173fc503859fbc6b5f431906a963797f663501bbbec17a3f4b0d7644d"
    expires       = "2027-03-01"
  }
  key "2027-a" {
    salted_sha256 = "9122ff5a1cf3b29094492a64d876eaec38678a079423d4e602dbad0d55a1ca021b5d40c2"
  }
}
