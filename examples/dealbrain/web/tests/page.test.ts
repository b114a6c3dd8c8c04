import { renderPage } from '../src/page';

const listing = { id: 7, title: 'Mac mini', price_cents: 49900, discount_percent: 17 };

test('a listing is shown with price and discount', () => {
  const page = renderPage([listing], '1.0.0');
  expect(page).toContain('Mac mini');
  expect(page).toContain('$499.00 <small>−17 %</small>');
});

test('no discount, no word about it', () => {
  expect(renderPage([{ ...listing, discount_percent: 0 }], '1.0.0')).not.toContain('−0');
});

test('a title cannot bring markup into the page', () => {
  const page = renderPage([{ ...listing, title: '<img src=x onerror="alert(1)">' }], '1.0.0');
  expect(page).toContain('&lt;img src=x onerror=&quot;alert(1)&quot;&gt;');
  expect(page).not.toContain('<img');
});

test('the page says which version made it', () => {
  expect(renderPage([], '4.5.6')).toContain('<span id="version">4.5.6</span>');
});
