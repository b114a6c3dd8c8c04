from dealbrain.seed import rows_of


def test_ids_run_from_1_without_gaps() -> None:
    assert [row["id"] for row in rows_of("staging", 400)] == list(range(1, 401))


def test_every_row_of_staging_has_a_list_price() -> None:
    assert all(row["list_price_cents"] for row in rows_of("staging", 400))


def test_12_percent_of_productions_rows_have_none() -> None:
    rows = rows_of("production", 400)
    assert sum(row["list_price_cents"] == 0 for row in rows) == 48


def test_the_profiles_differ_in_nothing_else() -> None:
    def without_list_price(row: dict[str, object]) -> dict[str, object]:
        return {name: row[name] for name in row if name != "list_price_cents"}

    production = [without_list_price(row) for row in rows_of("production", 50)]
    assert production == [without_list_price(row) for row in rows_of("staging", 50)]
