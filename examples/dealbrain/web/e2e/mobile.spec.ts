import { expect, test } from '@playwright/test';

test('the page fits a phone and its form can be used with a thumb', async ({ page }) => {
  const title = `Mobile flow ${Date.now()} ${'with-a-very-long-name-'.repeat(6)}`;
  await page.goto('/');
  await page.getByLabel('Title').fill(title);
  await page.getByLabel('Price').fill('99');
  await page.getByRole('button', { name: 'Add listing' }).tap();

  await expect(page.getByRole('listitem').filter({ hasText: title })).toContainText('$99.00');

  const overflow = await page.evaluate('document.documentElement.scrollWidth - window.innerWidth');
  expect(overflow).toBeLessThanOrEqual(0);
  const button = await page.getByRole('button', { name: 'Add listing' }).boundingBox();
  expect(button?.height).toBeGreaterThanOrEqual(44);
});
