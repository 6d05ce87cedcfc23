region "local" {}

customer "acme" {
  region = region.local

  hours "no-span" {
    time_zone = "UTC"
  }

  hours "direct" {
    time_zone = "Europe/Berlim"
    days      = "mon-fri"

    span {}
  }

  hours "city" {
    time_zone = "new york"

    span {
      days = ["mon-fri", "fri"]
    }
  }

  hours "nowhere" {
    time_zone = "CEST+1"

    span {
      days = "workdays"
      from = "9:00"
      to   = "25:00"
    }

    span {
      days = []
      from = "24:00"
    }

    span {
      from = "09:00"
      to   = "09:00"
    }
  }

  hours "nameless" {
    span "a" {
      days = ["mon"]
    }
  }

  alert "team" {
    to     = "a@acme.example"
    during = [hours.city, hours.citty, hours.city]
    except = []
  }

  alert "wrong" {
    to     = "a@acme.example"
    during = "business"
    except = source.web
  }
}
