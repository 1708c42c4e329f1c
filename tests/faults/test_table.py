from faults.table import BEGIN, END, FAULTS, PAGE, read_results, table


def test_every_fault_has_a_row():
    assert [fault.number for fault in FAULTS] == list(range(1, 39))


def test_the_page_shows_the_results():
    page = PAGE.read_text()
    shown = page[page.index(BEGIN) + len(BEGIN) : page.index(END)].strip()
    assert shown == table(read_results()), "run `make faults`"


def test_no_fault_does_more_harm_than_it_may():
    assert all(result["passed"] for result in read_results().values())
