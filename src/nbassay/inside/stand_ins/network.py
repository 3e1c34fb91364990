"""Python's own downloads: the lab's files are answered, all else is told why it fails."""

from __future__ import annotations

import email.message
import io
from typing import Any
from urllib.parse import urlsplit

import wrapt

from nbassay.inside.stand_ins import NO_NETWORK
from nbassay.inside.stand_ins.lab_files import lab_file


def answer_downloads() -> None:
    """Answer ``urllib.request`` and ``requests`` as soon as a notebook imports them."""
    wrapt.register_post_import_hook(_answer_urllib, "urllib.request")
    wrapt.register_post_import_hook(_answer_requests, "requests.adapters")


def _answer_urllib(module: Any) -> None:
    def answer(_wrapped: Any, _handler: Any, args: Any, _kwargs: Any) -> Any:
        request = args[0]
        try:
            content = _content(request.full_url)
        except LookupError as error:
            raise module.URLError(str(error)) from None
        headers = email.message.Message()
        headers["Content-Length"] = str(len(content))
        response = module.addinfourl(io.BytesIO(content), headers, request.full_url, 200)
        response.msg = "OK"
        return response

    # In the handlers themselves: whoever builds an opener of their own has them too.
    for name in ("HTTPHandler.http_open", "HTTPSHandler.https_open", "FTPHandler.ftp_open"):
        wrapt.wrap_function_wrapper(module, name, answer)


def _answer_requests(module: Any) -> None:
    def send(_wrapped: Any, _adapter: Any, args: Any, kwargs: Any) -> Any:
        request = args[0] if args else kwargs["request"]
        try:
            content = _content(request.url)
        except LookupError as error:
            raise module.ConnectionError(str(error), request=request) from None
        response = module.Response()
        response.status_code, response.reason = 200, "OK"
        response.url, response.request = request.url, request
        response.headers["Content-Length"] = str(len(content))
        response.raw = io.BytesIO(content)
        return response

    wrapt.wrap_function_wrapper(module, "HTTPAdapter.send", send)


def _content(url: str) -> bytes:
    """
    Bytes of the lab's file that *url* names.

    Raises:
        LookupError: It names none; the message says that there is no network.
    """
    found = lab_file(urlsplit(url).path)
    if found is None:
        raise LookupError(f"{NO_NETWORK}, and {url[:200]} is no file of the lab")
    return found.read_bytes()
