customer "hosting" {
  region = region.fra1

  # Carbon senders that cannot log in are recognised by where they come from.
  netblocks = ["198.51.100.0/25", "2001:db8:5::/48"]

  # collectd insists on declaring the exchange it publishes to.
  key "collectd" {
    salted_sha256 = "6c08d7e2bbf4da31e1086c86c12669eaaf03b951e88ac8040d1f824ab15dbd1b87c69e8f"
    may_declare   = true
  }
}
