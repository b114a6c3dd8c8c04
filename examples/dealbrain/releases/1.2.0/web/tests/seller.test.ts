import { renderPage } from '../src/page';

const listing = { id: 7, title: 'Mac mini', price_cents: 49900, discount_percent: 0 };

test('a known seller is named, without markup of theirs', () => {
  const page = renderPage([{ ...listing, seller: 'Ada <b>& Co</b>' }], '1.2.0');
  expect(page).toContain('<small>from Ada &lt;b&gt;&amp; Co&lt;/b&gt;</small>');
});

test('an unknown seller is not mentioned', () => {
  expect(renderPage([listing], '1.2.0')).not.toContain('from ');
});
