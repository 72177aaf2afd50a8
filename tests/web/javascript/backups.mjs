// The published JavaScript SDKs against a running server: node backups.mjs SDK URL EMAIL PASSWORD
// Prints one line of JSON for each thing it did; the test reads them.
import { createRequire } from 'node:module';

const [sdk, url, email, password] = process.argv.slice(2);
const require = createRequire(process.env.SDK_HOME + '/');
const module = require(sdk);
const Client = module.default ?? module;
const client = new Client(url);
client.autoCancellation(false);
const say = (what, value) => console.log(JSON.stringify({ what, value }));

async function refused(what, act) {
  try {
    await act();
    say(what, 'not refused');
  } catch (error) {
    say(what, { status: error.status, response: error.response });
  }
}

await refused('nobody', () => client.backups.getFullList());
await refused('wrong password', () => client.collection('_superusers').authWithPassword(email, 'wrong one'));
const signedIn = await client.collection('_superusers').authWithPassword(email, password);
say('signed in', { collection: signedIn.record.collectionName, valid: client.authStore.isValid, superuser: client.authStore.isSuperuser });
await client.collection('_superusers').authRefresh();
say('refreshed', client.authStore.isValid);
say('health', await client.health.check());
await client.backups.create('from_' + sdk + '.zip');
await client.backups.create('');
await refused('same name', () => client.backups.create('from_' + sdk + '.zip'));
await refused('bad name', () => client.backups.create('Bad Name.zip'));
say('list', await client.backups.getFullList());
const token = await client.files.getToken();
const address = client.backups.getDownloadURL(token, 'from_' + sdk + '.zip');
const whole = await fetch(address);
const bytes = new Uint8Array(await whole.arrayBuffer());
say('download', { status: whole.status, size: bytes.length, type: whole.headers.get('content-type'), start: [...bytes.slice(0, 4)] });
const part = await fetch(address, { headers: { Range: 'bytes=0-3' } });
say('range', { status: part.status, range: part.headers.get('content-range'), bytes: [...new Uint8Array(await part.arrayBuffer())] });
const file = new File([bytes], 'uploaded_' + sdk + '.zip', { type: 'application/zip' });
await client.backups.upload({ file });
await refused('upload again', () => client.backups.upload({ file }));
await refused('upload of no zip', () => client.backups.upload({ file: new File(['text'], 'text.zip') }));
await client.backups.delete('uploaded_' + sdk + '.zip');
await refused('delete again', () => client.backups.delete('uploaded_' + sdk + '.zip'));
await refused('restore of nothing', () => client.backups.restore('nothing.zip'));
const settings = await client.settings.update({ backups: { cron: '0 3 * * *', cronMaxKeep: 5 } });
say('settings', settings.backups);
await refused('bad cron', () => client.settings.update({ backups: { cron: 'x' } }));
say('crons', await client.crons.getFullList());
await client.crons.run('__pbAutoBackup__');
await client.settings.update({ backups: { cron: '' } });
say('crons without', await client.crons.getFullList());
