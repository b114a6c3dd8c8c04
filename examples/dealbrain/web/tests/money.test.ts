import { money } from '../src/money';

test.each([
  [0, '$0.00'],
  [5, '$0.05'],
  [1999, '$19.99'],
  [123456, '$1,234.56'],
  [100000000, '$1,000,000.00'],
])('%i cents are %s', (cents, text) => {
  expect(money(cents)).toBe(text);
});
