import { renderPage } from '../src/page';

const listing = { id: 7, title: 'Mac mini', price_cents: 49900, discount_percent: 0 };

test('a known condition is shown beside the title', () => {
  expect(renderPage([{ ...listing, condition: 'used' }], '1.1.0')).toContain('Mac mini <small>used</small>');
});

test('an unknown condition is not shown', () => {
  expect(renderPage([{ ...listing, condition: null }], '1.1.0')).toContain('<span>Mac mini</span>');
});
