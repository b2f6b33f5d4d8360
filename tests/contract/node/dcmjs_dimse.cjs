// dcmjs-dimse against an archive: node dcmjs_dimse.cjs PORT STUDY DESTINATION; prints what came, as JSON.
const { Client, constants, requests, responses } = require('dcmjs-dimse');

const [port, study, destination] = process.argv.slice(2);
const found = { echo: null, studies: [], stored: [], move: null, get: null, errors: [] };

function counts(response) {
  return [response.getStatus(), response.getCompleted(), response.getFailures()];
}

function ask(request, onResponse) {
  return new Promise((resolve) => {
    const client = new Client();
    request.on('response', onResponse);
    client.on('cStoreRequest', (received, callback) => {
      found.stored.push(received.getAffectedSopInstanceUid());
      const response = responses.CStoreResponse.fromRequest(received);
      response.setStatus(constants.Status.Success);
      callback(response);
    });
    client.on('networkError', (error) => found.errors.push(String(error)));
    client.on('closed', resolve);
    client.addRequest(request);
    client.send('127.0.0.1', Number(port), 'WS1', 'GANTRY');
  });
}

async function main() {
  await ask(new requests.CEchoRequest(), (response) => {
    found.echo = response.getStatus();
  });
  const keys = { StudyInstanceUID: study, PatientName: '', PatientID: '' };
  await ask(requests.CFindRequest.createStudyFindRequest(keys), (response) => {
    if (response.getStatus() === constants.Status.Pending) {
      found.studies.push(response.getDataset().getElement('StudyInstanceUID'));
    }
  });
  await ask(requests.CMoveRequest.createStudyMoveRequest(destination, study), (response) => {
    found.move = counts(response);
  });
  await ask(requests.CGetRequest.createStudyGetRequest(study), (response) => {
    found.get = counts(response);
  });
  console.log(JSON.stringify(found));
}

main();
