import { expect, test } from '@playwright/test';

test('a visitor adds a listing and finds it on the page', async ({ page, request }) => {
  const title = `Critical flow ${Date.now()}`;
  await page.goto('/');
  await expect(page.getByRole('heading', { name: 'Deal Brain' })).toBeVisible();

  await page.getByLabel('Title').fill(title);
  await page.getByLabel('Price').fill('1234.56');
  await page.getByRole('button', { name: 'Add listing' }).click();

  const item = page.getByRole('listitem').filter({ hasText: title });
  await expect(item).toHaveCount(1);
  await expect(item).toContainText('$1,234.56');

  const newest = await (await request.get('/api/listings?limit=1')).json();
  expect(newest[0]).toMatchObject({ title, price_cents: 123456 });
});

test('page and health name the same version', async ({ page, request }) => {
  const health = await (await request.get('/healthz')).json();
  expect(health).toMatchObject({ status: 'healthy', api: 'connected' });
  await page.goto('/');
  await expect(page.locator('#version')).toHaveText(health.version);
});
