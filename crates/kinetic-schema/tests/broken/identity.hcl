region "local" {}

region "far" {
  amqp       = ["amqp://broker.example:5672", "amqp://127.0.0.1:5672"]
  management = "http://broker.example:15672"
}

region "odd" {
  management = "https://broker.example:15671/api"
}

mail {
  relay = "localhost:25"
  from  = "kinetic@example.org"
}

tokens {
  ttl = "2d"

  key "a" {
    public  = "0312"
    expires = "2027-01-01"
  }

  key "b" {
    salted_sha256 = "00"
  }
}

edge {
  public = customer.nobody
}

limits {
  connections = 0
  series      = "many"
  mails       = 1
}

user "ops@example.org" {
  password = "hunter2"
  role     = "operator"
}

user "Alice@example.org" {
  password = "$argon2id$v=19$m=4096,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
}

user "bob@example.org" {
  password = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
}

key "stray" {
  public = "04"
}

customer "acme" {
  region         = region.local
  mails_per_hour = 60

  limits {
    message_size = "1TiB"
    clusters     = 0
  }

  limits {
    feeds = 7
  }

  key "edge" {
    salted_sha256 = "9f86430e00ff00000000000000000000000000000000000000000000000000000000ABcd"
    purpose       = "edge"
  }

  key "never" {
    salted_sha256 = "9f86430e00ff00000000000000000000000000000000000000000000000000000000ABcd"
    purpose       = "reed"
    starts        = "2027-03-02"
    expires       = "2027-03-01"
  }

  key "late" {
    salted_sha256 = "9f86430e00ff00000000000000000000000000000000000000000000000000000000ABcd"
    starts        = "tomorrow"
    expires       = "2027-03-01T12:00"
  }

  certificate "late" {
    sha256  = "9f86430e00ff00000000000000000000000000000000000000000000000000000000ABcd"
    expires = "2027-03-01T12:00:00Z"
  }

  certificate "host" {
    sha256 = "9f86430e00ff000000000000000000000000000000000000000000000000abcd"
  }

  user "bob@example.org" {
    password = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    role     = "operator"
  }

  user "carol" {
    password = "$argon2id$v=19$m=4194304,t=2,p=1$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
  }

  user "dave" {
    role = "viewer"
  }

  source "web" {
    routing = "#"
  }

  service "web" {
    cluster "hosts" {
      source  = source.web
      members = "*"
    }
  }
}
