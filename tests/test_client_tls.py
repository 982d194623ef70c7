"""The client with TLS: over gRPC with the kit's ssl_config.sh, over REST like behind a proxy."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from served import STATUS, answering, scripted, service_of
from small_served import GOOD

pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api, of the extra `serving`")
import model_server_protos
from google.protobuf import text_format

from posecascade.client import ServerError, connect

KIT = Path(__file__).resolve().parents[1] / "export" / "serving"


def openssl(*words, cwd):
    subprocess.run(["openssl", *words], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """The certificates of a CA, of a server at the loopback address, and of a client."""
    if not shutil.which("openssl") or not shutil.which("bash"):
        pytest.skip("needs openssl and bash")
    folder = tmp_path_factory.mktemp("certificates")
    # Python 3.13 verifies strictly (RFC 5280): CA certificates need keyUsage, others the identifier of the CA's key.
    (folder / "ca.cnf").write_text("[req]\ndistinguished_name=name\n[name]\n[ca]\nbasicConstraints=critical,CA:true\n"
                                   "keyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n")
    (folder / "names.txt").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nsubjectKeyIdentifier=hash\n"
                                      "authorityKeyIdentifier=keyid\n")
    (folder / "other.txt").write_text((folder / "names.txt").read_text().replace("IP:127.0.0.1,DNS:localhost",
                                                                                 "DNS:other.example"))
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority", "-config",
            "ca.cnf", "-extensions", "ca", cwd=folder)
    for name, extensions in (("server", "names"), ("client", "names"), ("other", "other")):
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}", cwd=folder)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
                f"{name}.pem", "-extfile", f"{extensions}.txt", cwd=folder)
    return folder


def test_tls_over_grpc_with_the_kit_s_ssl_config(small_model, certificates):
    service = service_of(small_model)

    def config(*authority):
        text = subprocess.run(["bash", KIT / "ssl_config.sh", "server.key", "server.pem", *authority], cwd=certificates,
                              check=True, capture_output=True, text=True).stdout
        return text_format.Parse(text, model_server_protos.CLASSES["SSLConfig"]())

    own = {name: certificates / file for name, file in
           (("ca", "ca.pem"), ("certificate", "client.pem"), ("key", "client.key"))}
    with answering(service, config()) as secure:
        url = secure.grpc.replace("grpc:", "grpcs:")
        with connect(url, ca=own["ca"]) as client:
            assert client.predict([GOOD])[0].keypoints[0].tolist() == [len(GOOD), 0]
        for problem in ({}, {"ca": certificates / "client.pem"}):  # not signed by a CA that the client trusts
            with connect(url, timeout=1, **problem) as client, pytest.raises(ServerError, match="UNAVAILABLE"):
                client.status()
    with answering(service, config("ca.pem")) as secure:
        url = secure.grpc.replace("grpc:", "grpcs:")
        with connect(url, **own) as client:
            assert client.status() == {1: "AVAILABLE"}
        with connect(url, timeout=1, ca=own["ca"]) as client, pytest.raises(ServerError):
            client.status()


def test_tls_over_rest(certificates):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    with scripted() as (server, url):
        server.script = [STATUS]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # the client closes the connection
        url = url.replace("http:", "https:")
        with connect(url, ca=certificates / "ca.pem") as client:
            assert client.status() == {4: "AVAILABLE"}
        with connect(url, timeout=5) as client, pytest.raises(ServerError, match="no TLS connection") as error:
            client.status()
        assert error.value.code == "UNAUTHENTICATED"


def test_certificate_of_another_host_is_refused(small_model, certificates):
    """The client trusts its authority; the server must not get the images all the same."""
    script = ["bash", KIT / "ssl_config.sh", "other.key", "other.pem"]
    text = subprocess.run(script, cwd=certificates, check=True, capture_output=True, text=True).stdout
    own, config = certificates / "ca.pem", text_format.Parse(text, model_server_protos.CLASSES["SSLConfig"]())
    with answering(service_of(small_model), config) as one, \
            connect(one.grpc.replace("grpc:", "grpcs:"), timeout=1, ca=own) as client, \
            pytest.raises(ServerError, match="UNAVAILABLE"):
        client.predict([GOOD])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "other.pem", certificates / "other.key")
    with scripted() as (server, url):
        server.script = [STATUS]
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None
        with connect(url.replace("http:", "https:"), timeout=5, ca=own) as client, \
                pytest.raises(ServerError, match=r"no TLS connection .*; check the certificates") as error:
            client.predict([GOOD])
        assert (error.value.code, server.seen) == ("UNAUTHENTICATED", [])
