"""Parses a report and checks what holds for every report."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
  """Tags, attributes and text of a page; fails if a tag is not closed."""

  VOID = ("meta", "br", "img", "link", "input")

  def __init__(self, content):
    super().__init__()
    self.tags, self.attributes, self.text, self.open = set(), [], "", []
    self.feed(content)
    assert not self.open

  def handle_starttag(self, tag, attributes):
    self.handle_startendtag(tag, attributes)
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attributes):
    self.tags.add(tag)
    self.attributes += attributes

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text += data


def check_page(content) -> Page:
  """Parses a page that has no script, no network access and no markup from texts."""
  page = Page(content)
  assert not page.tags & {"script", "img", "link", "iframe", "object"}
  for name, value in page.attributes:
    assert not name.startswith("on")
    if name in ("src", "href", "xlink:href"):
      assert value.startswith("#")
  assert "url(http" not in content
  ids = [value for name, value in page.attributes if name == "id"]
  used = set(re.findall(r'(?:href="|url\()#([^")]+)', content))
  assert used <= set(ids)  # the references of every drawing resolve
  assert "<b>bold" not in content
  assert str(7919 * 7919) not in content  # from run_folders.MARKUP
  return page
