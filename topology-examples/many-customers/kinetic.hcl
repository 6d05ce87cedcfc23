# Customers who share nothing but the installation: two regions, tokens, an edge, limits, people.

region "us-west.aws" {
  amqp       = ["amqps://broker-1.us-west.example:5671", "amqps://broker-2.us-west.example:5671"]
  management = "https://broker-1.us-west.example:15671"
  tokens     = true
}

region "eu.hosting" {
  amqp       = ["amqps://broker.eu.example:5671"]
  management = "https://broker.eu.example:15671"
}

mail {
  relay = "smtp.example:587"
  from  = "Kinetic <alerts@example.org>"
}

# What every customer may take that does not say otherwise in its own `limits`.
limits {
  connections        = 50
  channels           = 200
  message_size       = "256KiB"
  samples_per_second = 10000
  feeds              = 5000
  series             = 100000
  clusters           = 50
}

# Credentials that `locate` hands out. Both keys are accepted; from December on the second one signs.
tokens {
  ttl = "15m"

  key "2026-a" {
    public = "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
  }

  key "2026-b" {
    public = "047cf27b188d034f7e8a52380304b51ac3c08969e277f21b35a60b48fc4766997807775510db8ed040293d9ac69f7430dbba7dade63ce982299e04b79d227873d1"
    starts = "2026-12-01"
  }
}

# Carbon and statsd that come without a login, from nobody's netblock.
edge {
  public = customer.opensource
}

# An operator: the installation, and all customers.
user "ops@example.org" {
  password = "$argon2id$v=19$m=19456,t=2,p=1$PFhPXlsD8vlnvuUZRYSRWA$qzZjgBFbAQ35IwCXvI4J9nqZMz0QsDHBF6gQuS+SYaA"
}
