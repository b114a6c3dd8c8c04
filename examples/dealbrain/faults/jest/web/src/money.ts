/** 123456 cents as "$1,234.56". */
export function money(cents: number): string {
  const whole = Math.trunc(cents / 100).toString();
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ',');
  return `$${grouped}.${(cents % 100).toString().padEnd(2, '0')}`;
}
