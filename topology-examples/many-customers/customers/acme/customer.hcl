customer "acme" {
  region    = region["us-west.aws"]
  netblocks = ["203.0.113.0/25", "2001:db8:a::/48"]

  # A large customer; what is not here is as for everybody.
  limits {
    samples_per_second = 100000
    feeds              = 20000
    mails_per_hour     = 120
  }

  # Being rotated: both are good until the 14th.
  key "web" {
    salted_sha256 = "25841bee307c609f87da43c3d563428a4f7efdf9857f4871fd10465732c4ab11a985a08c"
    expires       = "2027-06-14"
  }

  key "web-2" {
    salted_sha256 = "31841bee307c609f87da43c3d563428a4f7efdf9857f4871fd10465732c4ab11a985a08c"
    starts        = "2027-06-01"
  }

  # collectd declares the exchange that it publishes to.
  key "collectd" {
    salted_sha256 = "41841bee307c609f87da43c3d563428a4f7efdf9857f4871fd10465732c4ab11a985a08c"
    may_declare   = true
  }

  # Reads what is notified, for a wall of screens.
  key "screens" {
    salted_sha256 = "51841bee307c609f87da43c3d563428a4f7efdf9857f4871fd10465732c4ab11a985a08c"
    purpose       = "read"
  }

  # The login acme.host-7; `openssl x509 -in host-7.pem -outform der | sha256sum`.
  certificate "host-7" {
    sha256  = "0d1cbb9a1a87cc18ea2b3b1b4d9c2a1ec8f0ef6a8c6a6b4f1c4cbd3e6a5f9e21"
    expires = "2026-12-20T00:00:00Z"
  }

  user "alice@acme.example" {
    password = "$argon2id$v=19$m=19456,t=2,p=1$+rZ0YxQpU4mS0nUQ5n6fIA$Jc2sX1n1xk0lJ8Q1k4kJwzvJm1g2hT0M4w7dV3mTn1k"
    role     = "owner"
  }

  user "bob@acme.example" {
    password = "$argon2id$v=19$m=19456,t=2,p=1$1mJk0YxQpU4mS0nUQ5n6fQ$Ac2sX1n1xk0lJ8Q1k4kJwzvJm1g2hT0M4w7dV3mTn1k"
  }
}
