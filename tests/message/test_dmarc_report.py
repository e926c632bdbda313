"""Aggregate reports: what is written can be read, and what others write as well."""

from __future__ import annotations

import base64
import email
import gzip
import io
import zipfile
from xml.etree import ElementTree

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailhub.message.dmarc_report import (
    AggregateReport,
    DkimResult,
    Published,
    Reason,
    Row,
    SpfResult,
    aggregate_message,
    written,
)
from mailhub.message.dmarc_report_reading import ROWS_LIMIT, read_report, reports_in
from mailhub.message.reporting import Sender

SENDER = Sender("mx.yy.example", "The YY", "dmarc@yy.example")
ROW = Row(
    "192.0.2.1",
    "reject",
    dkim=False,
    spf=False,
    reasons=(Reason("local_policy", "arc=pass & more"),),
    header_from="xx.example",
    envelope_from="",
    envelope_to="yy.example",
    dkim_results=(DkimResult("zz.example", "s1", "pass"), DkimResult("xx.example", "s2", "permerror")),
    spf_result=SpfResult("zz.example", "softfail"),
)
PUBLISHED = Published("xx.example", "reject", "quarantine", "none", "r", "s", "1:d", "n", "treewalk")
REPORT = AggregateReport(
    "The <YY>", "dmarc@yy.example", "0a1b", 1704067200, 1704153599, PUBLISHED, [(ROW, 3)], "2 more", "mailhub 1"
)


def same(report: AggregateReport) -> AggregateReport:
    return attrs.evolve(report, rows=tuple(report.rows))


def test_what_is_written_is_read() -> None:
    assert read_report(written(REPORT)) == same(REPORT)
    assert read_report(gzip.compress(written(REPORT))) == same(REPORT)


def test_the_order_of_elements_is_that_of_the_schema() -> None:
    root = ElementTree.fromstring(written(REPORT))
    names = [each.tag.partition("}")[2] for each in root]
    assert {each.tag.partition("}")[0] for each in root.iter()} == {"{urn:ietf:params:xml:ns:dmarc-2.0"}
    assert names == ["version", "report_metadata", "policy_published", "record"]
    record = root[3]
    assert [each.tag.partition("}")[2] for each in record] == ["row", "identifiers", "auth_results"]
    evaluated = record[0][2]
    assert [each.tag.partition("}")[2] for each in evaluated] == ["disposition", "dkim", "spf", "reason"]
    assert [each.tag.partition("}")[2] for each in record[2]] == ["dkim", "dkim", "spf"]


TEXT = st.text(max_size=40).map(lambda text: text.strip())
NAME = st.text(st.characters(codec="ascii", categories=["Ll", "Nd"]), max_size=20)
ROWS = st.builds(
    Row,
    source=st.ip_addresses().map(str),
    disposition=st.sampled_from(["none", "pass", "quarantine", "reject"]),
    dkim=st.booleans(),
    spf=st.booleans(),
    reasons=st.lists(st.builds(Reason, st.sampled_from(["other", "local_policy"]), TEXT), max_size=2).map(tuple),
    header_from=NAME,
    envelope_from=st.none() | NAME,
    envelope_to=NAME,
    dkim_results=st.lists(st.builds(DkimResult, NAME, TEXT, st.sampled_from(["pass", "fail"])), max_size=3).map(tuple),
    spf_result=st.none() | st.builds(SpfResult, NAME, st.sampled_from(["pass", "none"])),
)


@given(st.dictionaries(ROWS, st.integers(1, 10**12), max_size=4), TEXT, TEXT)
def test_whatever_is_written_is_read(rows: dict[Row, int], organization: str, error: str) -> None:
    report = attrs.evolve(REPORT, rows=tuple(rows.items()), organization=organization, error=error)
    octets = written(report)
    ElementTree.fromstring(octets)  # another parser takes it, too
    read = read_report(octets)
    # Controls and lone surrogates, which XML cannot hold, came out as "?".
    assert read == read_report(written(read))
    assert [(row.source, row.disposition, row.dkim, row.spf, row.envelope_from) for row, _ in read.rows] == [
        (row.source, row.disposition, row.dkim, row.spf, row.envelope_from) for row in rows
    ] or len(read.rows) < len(rows)
    if organization.isprintable():
        assert read.organization == organization


GOOGLE = b"""<?xml version="1.0" encoding="UTF-8" ?>
<feedback>
  <report_metadata>
    <org_name>google.com</org_name>
    <email>noreply-dmarc-support@google.com</email>
    <extra_contact_info>https://support.google.com/a/answer/2466580</extra_contact_info>
    <report_id>9391651994964116463</report_id>
    <date_range>
      <begin>1335571200</begin>
      <end>1335657599</end>
    </date_range>
  </report_metadata>
  <policy_published>
    <domain>Example.org</domain>
    <adkim>r</adkim>
    <aspf>r</aspf>
    <p>none</p>
    <sp>none</sp>
    <pct>100</pct>
  </policy_published>
  <record>
    <row>
      <source_ip>2001:DB8::1</source_ip>
      <count>2</count>
      <policy_evaluated>
        <disposition>none</disposition>
        <dkim>fail</dkim>
        <spf>pass</spf>
      </policy_evaluated>
    </row>
    <identifiers>
      <header_from>example.org</header_from>
    </identifiers>
    <auth_results>
      <dkim>
        <domain>example.org</domain>
        <result>fail</result>
        <human_result/>
      </dkim>
      <spf>
        <domain>example.org</domain>
        <result>pass</result>
      </spf>
    </auth_results>
  </record>
</feedback>
"""

MICROSOFT = b"""\xef\xbb\xbf<?xml version="1.0"?><feedback xmlns:xsd="http://www.w3.org/2001/XMLSchema"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><version>1.0</version><report_metadata>\
<org_name>Enterprise Outlook</org_name><email>dmarcreport@microsoft.com</email>\
<report_id>a4f1</report_id><date_range><begin>1335571200</begin><end>1335657600</end></date_range></report_metadata>\
<policy_published><domain>example.org</domain><adkim>s</adkim><aspf>r</aspf><p>reject</p><sp>reject</sp><pct>100</pct>\
<fo>0</fo></policy_published><record><row><source_ip>192.0.2.7</source_ip><count>1</count><policy_evaluated>\
<disposition>none</disposition><dkim>fail</dkim><spf>fail</spf><reason><type>local_policy</type><comment>arc=pass\
</comment></reason></policy_evaluated></row><identifiers><envelope_to>contoso.example</envelope_to>\
<envelope_from>bounce.example.net</envelope_from><header_from>example.org</header_from></identifiers><auth_results>\
<dkim><domain>example.net</domain><selector>k1</selector><result>pass</result></dkim><spf>\
<domain>bounce.example.net</domain><scope>mfrom</scope><result>pass</result></spf></auth_results></record></feedback>"""


def prefixed(octets: bytes) -> bytes:
    for name in (b"report_metadata", b"org_name", b"date_range", b"begin", b"policy_published", b"domain", b"record"):
        octets = octets.replace(b"<" + name + b">", b"<n:" + name + b">").replace(b"</" + name, b"</n:" + name)
    return octets.replace(b"<feedback>", b"<n:feedback>").replace(b"</feedback>", b"</n:feedback>")


def test_what_large_senders_write_is_read() -> None:
    report = read_report(GOOGLE)
    assert (report.organization, report.published.domain) == ("google.com", "example.org")
    assert (report.begin, report.end) == (1335571200, 1335657599)
    [(row, count)] = report.rows
    assert (row.source, count, row.dkim, row.spf) == ("2001:db8::1", 2, False, True)
    assert row.dkim_results == (DkimResult("example.org", "", "fail"),)
    assert row.envelope_from is None

    [(row, _)] = read_report(MICROSOFT).rows
    assert row.reasons == (Reason("local_policy", "arc=pass"),)
    assert (row.envelope_to, row.envelope_from) == ("contoso.example", "bounce.example.net")
    assert row.spf_result == SpfResult("bounce.example.net", "pass")

    assert read_report(prefixed(GOOGLE)) == read_report(GOOGLE)
    assert read_report(GOOGLE + b"\0\0\n") == read_report(GOOGLE)
    assert read_report(GOOGLE.decode().replace('encoding="UTF-8"', "").encode("utf-16")) == read_report(GOOGLE)


def test_rows_that_make_no_sense_are_counted() -> None:
    for odd in (b"<count>-2</count>", b"<count>1e9</count>", b"<count>" + b"9" * 30 + b"</count>", b"<count>0</count>"):
        report = read_report(GOOGLE.replace(b"<count>2</count>", odd))
        assert (report.rows, report.unread) == ((), 1)
    report = read_report(GOOGLE.replace(b"2001:DB8::1", b"x" * 65536))
    assert (report.rows, report.unread) == ((), 1)


LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE feedback [<!ENTITY a "ha">'
    + b"".join(b'<!ENTITY %c "&%c;&%c;&%c;">' % (c, c - 1, c - 1, c - 1) for c in range(98, 120))
    + b"]><feedback>&w;</feedback>"
)
OUTSIDE = b'<!DOCTYPE feedback [<!ENTITY x SYSTEM "file:///etc/passwd">]><feedback><a>&x;</a></feedback>'


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (LAUGHS, "declares a document type"),
        (OUTSIDE, "declares a document type"),
        (b'<!DOCTYPE feedback SYSTEM "http://a.example/x.dtd"><feedback/>', "declares a document type"),
        (b"<feedback>&x;</feedback>", "is no XML"),
        (b"<feedback>" + b"<a>" * 1000, "too deep"),
        (b"<feedback>" + b"<a/>" * 1_000_001, "too many elements"),
        (b"<feedback/>", "no report of DMARC"),
        (b"<html/>", "no report of DMARC"),
        (b"", "is no XML"),
        (b"\xff\xfe\0<", "is no XML"),
        (b'<?xml version="1.0" encoding="nonsense"?><feedback/>', "is no XML"),
        (b'<?xml version="1.0" encoding="utf-7"?><feedback/>', "not supported"),
        (GOOGLE.replace(b"1335571200", b"-1"), "no report of DMARC"),
        (GOOGLE.replace(b"1335571200", b"9" * 400), "no report of DMARC"),
        (GOOGLE[:-30], "is no XML"),
        (b"<feedback>" + b" " * (1 << 24), "too large"),
    ],
)
def test_hostile_documents(octets: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read_report(octets)


def test_there_are_not_more_rows_than_there_is_room_for() -> None:
    start, _, rest = GOOGLE.partition(b"  <record>")
    record = b"<record><row><source_ip>10.%d.%d.%d</source_ip><count>1</count><policy_evaluated/></row></record>"
    rows = [record % (n >> 16, n >> 8 & 255, n & 255) for n in range(ROWS_LIMIT + 1)]
    assert rest
    assert len(read_report(start + b"".join(rows[:-1]) + b"</feedback>").rows) == ROWS_LIMIT
    with pytest.raises(ValueError, match="too many rows"):
        read_report(start + b"".join(rows) + b"</feedback>")


def test_long_texts_are_cut() -> None:
    report = read_report(GOOGLE.replace(b"<org_name>google.com", b"<org_name>" + b"a" * 70_000))
    assert report.organization == "a" * 1000


@given(st.integers(0, len(GOOGLE)), st.binary(max_size=20))
def test_whatever_comes_is_read_or_refused(place: int, octets: bytes) -> None:
    try:
        read_report(GOOGLE[:place] + octets + GOOGLE[place:])
    except ValueError:
        return


def test_as_mail() -> None:
    packed = gzip.compress(written(REPORT))
    octets = aggregate_message(SENDER, "dmarc@xx.example", REPORT, packed, 1704160000, 0)
    message = email.message_from_bytes(octets)
    subject = "Report Domain: xx.example Submitter: yy.example Report-ID: <0a1b>"
    assert " ".join(message["Subject"].split()) == subject
    _, _, file = message.walk()
    assert file.get_content_type() == "application/gzip"
    assert file.get_filename() == "yy.example!xx.example!1704067200!1704153599!0a1b.xml.gz"
    assert list(reports_in(octets)) == [same(REPORT)]
    long = ".".join(["x" * 60] * 4)
    other = attrs.evolve(REPORT, published=Published(long))
    octets = aggregate_message(Sender(long, "x", f"a@{long}"), f"a@{long}", other, packed, 0, 0)
    assert max(map(len, octets.split(b"\r\n"))) < 998


def as_mail(kind: str, encoding: str, body: bytes) -> bytes:
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body


def test_the_ways_in_which_reports_are_attached() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("google.com!example.org!1!2.xml", GOOGLE)
    for packed, kind in (
        (archive.getvalue(), "application/zip"),  # the whole message is the archive, as Google has it
        (gzip.compress(GOOGLE), "application/octet-stream"),
        (GOOGLE, "text/xml"),
    ):
        octets = as_mail(kind, "base64", base64.encodebytes(packed))
        assert [each.organization for each in reports_in(octets)] == ["google.com"]
    assert [each.organization for each in reports_in(as_mail("application/xml", "8bit", GOOGLE))] == ["google.com"]
    assert list(reports_in(as_mail("text/plain", "8bit", GOOGLE))) == []
    assert list(reports_in(as_mail("application/zip", "base64", b"UEsDBAnonsense"))) == []
