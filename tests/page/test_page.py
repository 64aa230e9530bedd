"""The page in Chromium, against a process that is none (stub.py): what a real one does not do at will.

python3 test_page.py PAGE"""
import re
import sys
import time

from browser import Browser
from stub import HOSTILE, Stub, serve

SENTENCE = "const s = document.querySelector('.sentence'); return s ? s.innerText : ''"

# Text that is hard to read for its colours: below 4.5 to 1, as WCAG 2 counts.
FAINT = """
const light = color => color.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const parsed = text => text.match(/[0-9.]+/g).map(Number);
const behind = e => { for (; e; e = e.parentElement) { const c = parsed(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
return [...document.querySelectorAll('body *')].filter(e => e.offsetParent && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())).map(e => {
  const [a, b] = [light(parsed(getComputedStyle(e).color).slice(0, 3)), light(behind(e))].sort((x, y) => y - x);
  return [(a + 0.05) / (b + 0.05), e.className + ': ' + e.textContent.slice(0, 40)];
}).filter(([ratio]) => ratio < 4.5)"""

# What a screen reader would stumble over.
STUMBLES = """
const found = [], levels = [...document.querySelectorAll('h1,h2,h3,h4')].filter(h => h.offsetParent).map(h => Number(h.tagName[1]));
if (levels.filter(l => l === 1).length !== 1) found.push('not one h1');
levels.forEach((l, i) => { if (i > 0 && l > levels[i - 1] + 1) found.push('a heading skips a level: ' + levels[i - 1] + ' ' + l); });
for (const cell of document.querySelectorAll('th')) if (!cell.scope) found.push('a th without scope: ' + cell.textContent);
for (const input of document.querySelectorAll('input')) if (input.labels.length !== 1) found.push('an input without label');
for (const part of document.querySelectorAll('[role=region], [role=img], nav')) if (!part.getAttribute('aria-label')) found.push('a part without name');
const regions = [...document.querySelectorAll('[role=region]')].map(e => e.getAttribute('aria-label'));
if (new Set(regions).size !== regions.length) found.push('a region is called as another: ' + regions);
for (const name of ['header', 'main', 'footer']) if (document.querySelectorAll(name).length !== 1) found.push('not one ' + name);
const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
if (new Set(ids).size !== ids.length) found.push('an id stands twice');
return found"""


class Case:
    def __init__(self, browser, stub, address):
        self.browser, self.stub, self.address = browser, stub, address

    def begin(self, scenario, width=1280, height=900, scheme="light", vehicles=10000):
        self.stub.vehicles = vehicles
        self.stub.become(scenario)
        self.browser.window(width, height, scheme)
        self.browser.go(self.address)
        self.browser.wait("return document.querySelectorAll('.pipeline .box').length >= 4")

    def check_quiet(self):
        complaints = self.browser.complaints()
        assert not complaints, complaints
        assert not self.browser.has_dialog()

    def check_narrow(self):
        width, room = self.browser.run("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert width <= room, f"the page is {width} wide, and there is room for {room}"

    def check_goes_on(self):
        """It has shown two more events."""
        for _ in range(2):
            before = self.browser.run("return latest.time")
            self.browser.wait("return latest.time > arguments[0]", before)


def flows(case):
    case.begin("flowing")
    case.browser.wait("return document.title === 'Flowing \u00b7 bridge'")
    sentence = case.browser.run(SENTENCE)
    assert sentence.startswith("Flowing: ") and "/s in, " in sentence, sentence
    assert not case.browser.run("return document.querySelectorAll('.box .mark:not([hidden])').length")
    case.browser.wait("return [...document.querySelectorAll('.sparks .line')].every(l => l.getAttribute('d').length > 1000)")
    case.browser.wait("return document.querySelectorAll('.latency tbody tr').length === 5 && document.querySelector('.latency').innerText.includes('9.4 ms')")
    lost = case.browser.run("return document.querySelectorAll('.grid .card')[3].innerText")
    for reason, count in (("rejected: payload", 12), ("rejected: field", 290), ("rejected: other reasons", 10)):
        assert f"{reason}\t{count}" in lost, lost
    case.check_goes_on()
    assert case.browser.run("return document.getElementById('said').textContent") == "", "said what has not changed"
    case.check_quiet()


def sticks_and_recovers(case):
    case.begin("flowing")
    case.browser.wait("return document.title.startsWith('Flowing')")
    case.stub.become("stuck")
    case.browser.wait("return document.title === 'STUCK \u00b7 bridge'")
    sentence = case.browser.run(SENTENCE)
    assert sentence.startswith("STUCK for ") and "sink kafka" in sentence, sentence
    assert time.strftime("%H:%M:%S UTC", time.gmtime(case.stub.since)) in sentence, sentence
    marked = case.browser.run("return [...document.querySelectorAll('.box')].filter(b => !b.querySelector('.mark').hidden).map(b => b.querySelector('h4').textContent)")
    assert marked == ["sink kafkakafka_sink"], marked
    said = case.browser.run("return document.getElementById('said').textContent")
    assert said.startswith("bridge: STUCK"), said
    case.stub.become("flowing")
    case.browser.wait("return document.title.startsWith('Flowing') && document.querySelector('.sentence').innerText.startsWith('Flowing')")
    case.check_quiet()


def says_aloud_what_is_new(case):
    case.begin("both")
    case.stub.become("both stuck")
    case.browser.wait("return /^bridge: STUCK.*consumer: STUCK/.test(said.textContent)")
    case.begin("flowing")
    case.browser.run("window.aloud = []; new MutationObserver(() => aloud.push(said.textContent)).observe(said, {childList: true, characterData: true, subtree: true})")
    case.stub.become("wavering")
    for _ in range(2):
        case.check_goes_on()
    assert case.browser.run("return aloud.length") <= 1, case.browser.run("return aloud")
    case.check_quiet()


def tells_once_why_a_stage_is_not_connected(case):
    case.begin("starting")
    text = case.browser.run("return document.querySelector('.box').innerText")
    assert text.count("refused") == 1, text
    case.check_quiet()


def is_never_green_when_it_hears_nothing(case):
    case.stub.ahead = -3 * 86400
    case.begin("flowing")
    case.browser.run("const real = Date.now; Date.now = () => real() - 3600e3")
    case.stub.is_silent = True
    try:
        case.browser.wait("return document.title === 'CONNECTION LOST \u00b7 bridge'")
        since = case.browser.run("return document.getElementById('lost').innerText")
        assert re.match(r"Connection lost since \d\d:\d\d:\d\d UTC", since), since
        assert case.browser.run("return document.getElementById('lost').offsetParent !== null")
        assert case.browser.run(SENTENCE).startswith("Unknown since "), case.browser.run(SENTENCE)
        colors = case.browser.run("const s = getComputedStyle(document.querySelector('.sentence')); return [s.borderLeftColor, s.backgroundColor]")
        for color in colors:
            parts = [int(part) for part in color[color.index("(") + 1:-1].split(",")[:3]]
            assert max(parts) - min(parts) < 24, f"{color} is no grey"
    finally:
        case.stub.is_silent, case.stub.ahead = False, 0
    case.browser.wait("return document.title.startsWith('Flowing') && document.getElementById('lost').hidden")
    case.browser.complaints()  # that it could not connect


def keeps_no_connection_while_it_is_hidden(case):
    case.begin("flowing")
    case.browser.run("""window.isAway = true; Object.defineProperty(document, 'hidden', {get: () => isAway});
        document.dispatchEvent(new Event('visibilitychange'))""")
    case.browser.wait("return stream === null")
    case.stub.become("stuck")
    case.browser.wait("return document.title === 'STUCK \u00b7 bridge'")
    case.stub.is_silent = True
    case.browser.wait("return document.title.startsWith('CONNECTION LOST')")
    assert case.browser.run("return stream === null")
    case.stub.is_silent = False
    case.browser.run("isAway = false; document.dispatchEvent(new Event('visibilitychange'))")
    case.browser.wait("return document.title === 'STUCK \u00b7 bridge' && document.querySelector('.sentence').innerText.startsWith('STUCK')")
    case.check_goes_on()
    case.browser.complaints()


def draws_what_was(case):
    """A second's burst is in its step's mean, and the most of a step stays."""
    case.begin("flowing")
    case.browser.wait("return [...document.querySelectorAll('.sparks .line')].every(l => l.getAttribute('d').length > 1000)")
    case.stub.become("burst")
    case.browser.wait("return latest.pipelines[0].in_flight.records === 9000")
    case.stub.become("flowing")
    before = case.browser.run("return latest.time")
    case.browser.wait("return latest.time > arguments[0] + 6", before)
    peaks = case.browser.run("return [...document.querySelectorAll('.sparks p span')].map(e => e.textContent)")
    assert peaks[2:] == ["most 9\u202f000", "most 12 s"], peaks
    most = re.fullmatch(r"most (\d+)\u202f\d\d\d/s, by 5 s", peaks[1])
    assert most and 20 < int(most.group(1)) < 80, peaks
    case.check_quiet()


def takes_no_harm(case):
    case.begin("hostile", width=900)
    case.browser.wait("return document.body.innerText.includes('<script>alert(1)</script>')")
    case.browser.wait("return [...document.querySelectorAll('.fleet td')].some(cell => cell.textContent.includes('<script>'))")
    case.browser.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    case.check_goes_on()
    assert case.browser.run("return [document.scripts.length, document.images.length, document.querySelectorAll('style').length]") == [1, 0, 1]
    text = case.browser.run("return document.body.innerText")
    assert len(text) < 60000, f"{len(text)} characters"
    odd = {c for c in text if c in HOSTILE and (ord(c) < 32 or 0x7f <= ord(c) < 0xa0 or c in "\u202e\u2066")}
    assert not odd, odd
    case.check_narrow()
    case.browser.window(320, 640)
    case.check_narrow()
    assert case.browser.run("return [...document.querySelectorAll('.fleet tbody th')].every(cell => cell.scrollWidth <= cell.clientWidth)")
    case.check_quiet()


def shows_a_hundred_of_ten_thousand(case):
    case.begin("flowing")
    case.browser.wait("return document.querySelectorAll('.fleet tbody tr').length === 100")
    first = case.browser.run("return document.querySelector('.fleet tbody tr').innerText")
    assert "raspi-00000" in first and "silent" in first and "min" in first, first
    assert "9\u202f900 more" in case.browser.run("return document.querySelector('.tools').innerText")
    case.browser.run("const find = document.querySelector('input'); find.value = '04711'; find.dispatchEvent(new Event('input'));")
    case.browser.wait("return document.querySelectorAll('.fleet tbody tr').length === 1 && document.querySelector('.fleet tbody tr').innerText.includes('raspi-04711')")
    case.browser.run("document.querySelector('.fleet').closest('details').open = false")
    asked = len([path for path in case.stub.requests if path.startswith("/vehicles")])
    case.browser.run("panels.forEach(p => p.look())")
    case.check_goes_on()
    assert len([path for path in case.stub.requests if path.startswith("/vehicles")]) == asked, "asks for what nobody sees"
    case.check_quiet()


def has_no_fleet_where_none_is_kept(case):
    case.begin("flowing", vehicles=0)
    case.browser.wait("return document.querySelector('.fleet').offsetParent === null && document.title.startsWith('Flowing')")
    case.browser.run("panels.forEach(p => p.look())")
    case.check_goes_on()
    case.check_quiet()


def works_by_an_address_with_a_password(case):
    case.begin("flowing")
    address, case.address = case.address, case.address.replace("//", "//user:password@")
    case.begin("flowing")
    case.address = address
    case.browser.wait("return document.querySelectorAll('.fleet tbody tr').length === 100")
    case.check_quiet()


def shows_all_pipelines_and_the_worst_in_its_title(case):
    case.begin("several")
    case.browser.wait("return document.querySelectorAll('.pipeline').length === 3 && document.title === 'STUCK \u00b7 consumer'")
    assert case.browser.run("return document.querySelector('nav').innerText").split() == ["bridge", "Flowing", "consumer", "STUCK", "archive", "Idle"]
    case.begin("flowing")
    case.browser.wait("return document.querySelectorAll('.pipeline').length === 1 && document.querySelector('nav').hidden")
    case.check_quiet()


def keeps_what_is_open_while_others_come_and_go(case):
    case.begin("flowing")
    case.browser.run("window.kept = document.querySelector('.pipeline'); kept.querySelector('details').open = !kept.querySelector('details').open; window.wasOpen = kept.querySelector('details').open")
    case.stub.become("several")
    case.browser.wait("return document.querySelectorAll('.pipeline').length === 3 && !document.querySelector('nav').hidden")
    same = "return document.querySelector('.pipeline') === kept && kept.querySelector('details').open === wasOpen"
    assert case.browser.run(same), "the panel of one that stayed was made anew"
    case.stub.become("flowing")
    case.browser.wait("return document.querySelectorAll('.pipeline').length === 1 && document.querySelector('nav').hidden")
    assert case.browser.run(same), "the panel of one that stayed was made anew"
    case.check_goes_on()
    case.check_quiet()


def fits_a_telephone(case):
    for scenario in ("flowing", "stuck", "several", "named", "starting"):
        case.begin(scenario, width=320, height=640)
        case.browser.wait("return document.querySelectorAll('.fleet tbody tr').length >= 100")
        case.check_narrow()
    case.check_quiet()


def can_be_read_by_all(case):
    for scheme in ("light", "dark"):
        for scenario in ("flowing", "stuck", "several", "starting", "idle"):
            case.begin(scenario, scheme=scheme)
            case.browser.wait("return document.querySelectorAll('.fleet tbody tr').length >= 100")
            faint = case.browser.run(FAINT)
            assert not faint, (scheme, scenario, faint)
            stumbles = case.browser.run(STUMBLES)
            assert not stumbles, stumbles
    case.check_quiet()


def works_by_keyboard(case):
    case.begin("flowing")
    case.browser.wait("return document.querySelectorAll('.fleet tbody tr').length === 100")
    reached = []
    for _ in range(12):
        for kind in ("keyDown", "keyUp"):
            case.browser.chrome("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(case.browser.run("""const e = document.activeElement, s = getComputedStyle(e);
            if (e !== document.body && s.outlineStyle === 'none') throw new Error('no focus is seen on ' + e.outerHTML.slice(0, 80));
            return e.tagName + ' ' + (e.getAttribute('aria-label') || e.textContent.slice(0, 20) || e.type)"""))
    for expected in ("A Skip to the pipeline", "REGION Warnings", "SUMMARY Vehicles", "INPUT search", "A metrics"):
        kind, name = expected.split(" ", 1)
        assert any((kind == "REGION" or r.startswith(kind)) and name in r for r in reached), (expected, reached)
    case.check_quiet()


CASES = [flows, sticks_and_recovers, says_aloud_what_is_new, tells_once_why_a_stage_is_not_connected,
         is_never_green_when_it_hears_nothing, keeps_no_connection_while_it_is_hidden, draws_what_was, takes_no_harm, shows_a_hundred_of_ten_thousand,
         has_no_fleet_where_none_is_kept, works_by_an_address_with_a_password,
         shows_all_pipelines_and_the_worst_in_its_title, keeps_what_is_open_while_others_come_and_go, fits_a_telephone, can_be_read_by_all, works_by_keyboard]


def main():
    stub = Stub(sys.argv[1])
    address, failed = serve(stub), 0
    with Browser() as browser:
        for one in CASES:
            begun = time.monotonic()
            try:
                one(Case(browser, stub, address))
                print(f"ok      {one.__name__} ({time.monotonic() - begun:.1f} s)", flush=True)
            except (AssertionError, RuntimeError) as error:
                print(f"FAILED  {one.__name__}: {error}", flush=True)
                failed += 1
    sys.exit(failed > 0)


main()
