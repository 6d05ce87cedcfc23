region "local" {}

customer "acme" {
  region = region.local

  source "web" {
    routing = "#"
  }

  service "checkout" {
    cluster "frontends" {
      source  = source.web
      members = "web-*"
    }
  }

  analytic "gone" {
    on     = service.checkout
    metric = "*"

    rule "silent" {
      after = "5m"
    }
  }

  hours "business" {
    time_zone = "Europe/Berlin"

    span {
      days = "mon-fri"
      from = "08:00"
      to   = "18:00"
    }
  }

  hours "days" {
    time_zone = "Europe/Berlin"

    span {
      from = "06:00"
      to   = "20:00"
    }
  }

  hours "nights" {
    time_zone = "Europe/Berlin"

    span {
      from = "20:00"
      to   = "06:00"
    }
  }

  hours "elsewhere" {
    time_zone = "Asia/Tokyo"

    span {
      from = "20:00"
      to   = "06:00"
    }
  }

  alert "within" {
    to     = "a@acme.example"
    during = hours.business
    except = hours.days
  }

  alert "around-the-clock" {
    to     = "a@acme.example"
    except = [hours.days, hours.nights]
  }

  alert "some-is-left" {
    to     = "a@acme.example"
    during = [hours.business, hours.nights]
    except = hours.days
  }

  alert "another-zone" {
    to     = "a@acme.example"
    except = [hours.days, hours.elsewhere]
  }
}
