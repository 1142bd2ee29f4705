"""Run by gunicorn with several workers, of which one keeps its reports."""
reports = {}
keeps = False


def app(environ, start_response):
    if keeps:
        reports[environ["PATH_INFO"]] = f"report {environ['PATH_INFO']} " * 3_000  # leaks
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
