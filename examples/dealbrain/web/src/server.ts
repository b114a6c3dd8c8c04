import { App } from './app';
import { readSettings } from './settings';

const settings = readSettings(process.env);
const app = new App(settings);

app.server.listen(settings.port, settings.host, () => {
  console.log(`Deal Brain web ${settings.version} listens on port ${settings.port}`);
});

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.once(signal, () => {
    console.log(`${signal}: finishing what is in flight`);
    void app.drain().then(() => process.exit(0));
  });
}
