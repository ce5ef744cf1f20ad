"""A Django application in one file, with the endpoints on a port of their own.

    python examples/django_app.py runserver --noreload
    go tool pprof -top http://localhost:6060/debug/pprof/heap

In a project of several files the call to `serve` belongs into `AppConfig.ready`.
"""

from __future__ import annotations

import os
import sys

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, HttpResponse
from django.urls import path

import pyprof_agent

settings.configure(
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    DEBUG=False,
    ROOT_URLCONF=__name__,
    SECRET_KEY="only an example",
)


def hello(request: HttpRequest) -> HttpResponse:
    """The service's own route."""
    return HttpResponse("hello\n")


urlpatterns = [path("", hello)]

if __name__ == "__main__":
    django.setup()
    server = pyprof_agent.serve(port=int(os.environ.get("DEBUG_PORT", "6060")))
    print(f"profiles on {server.url}", flush=True)
    execute_from_command_line(sys.argv)
