"""Small PDF files for tests."""

import io

from pypdf import PdfReader, PdfWriter

__all__ = ["make_pdf"]


def make_pdf(pages: list[list[str]], *, title: str | None = None, password: str | None = None) -> bytes:
    """Return a PDF with one page for each list of lines; an empty list makes a page without text."""
    contents = []
    for lines in pages:
        shown = " ".join(f"({line}) Tj T*" for line in lines)
        contents.append(f"BT /F1 12 Tf 14 TL 50 750 Td {shown} ET".encode() if lines else b"")
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, content in enumerate(contents):
        page = f"/Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * number} 0 R"
        objects.append(f"<< {page} /Resources << /Font << /F1 3 0 R >> >> >>".encode())
        objects.append(f"<< /Length {len(content)} >>\nstream\n".encode() + content + b"\nendstream")
    data, places = b"%PDF-1.4\n", []
    for number, item in enumerate(objects, start=1):
        places.append(len(data))
        data += f"{number} 0 obj\n".encode() + item + b"\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(objects) + 1
    data += f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R >>\n".encode()
    data += f"startxref\n{data.rindex(b'xref')}\n%%EOF\n".encode()
    if title is None and password is None:
        return data
    writer = PdfWriter(PdfReader(io.BytesIO(data)))
    if title is not None:
        writer.add_metadata({"/Title": title})
    if password is not None:
        writer.encrypt(password, algorithm="RC4-128")
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()
