// What the viewers' own client (dicomweb-client, dcmjs) makes of an archive: one line of JSON.
//
//     node dicomweb_client.cjs BASE STUDY FILE
//
// FILE is stored first, by the client. Searches, metadata, the file and a frame follow.

const fs = require("fs");

global.XMLHttpRequest = require("xhr2");
const { api } = require("dicomweb-client");
const { data } = require("dcmjs");

const [base, study, file] = process.argv.slice(2);

function value(element) {
  return element && element.Value ? element.Value[0] : null;
}

function bytes(buffer) {
  return Buffer.from(buffer).toString("base64");
}

async function main() {
  const client = new api.DICOMwebClient({ url: base, singlepart: false });
  const content = fs.readFileSync(file);
  const sent = content.buffer.slice(content.byteOffset, content.byteOffset + content.length);
  await client.storeInstances({ datasets: [sent] });

  const studies = await client.searchForStudies({
    queryParams: { StudyInstanceUID: study, includefield: "00081030" },
  });
  const series = await client.searchForSeries({ studyInstanceUID: study });
  const seriesInstanceUID = value(series[0]["0020000E"]);
  const metadata = await client.retrieveSeriesMetadata({
    studyInstanceUID: study,
    seriesInstanceUID,
  });
  const named = data.DicomMetaDictionary.naturalizeDataset(metadata[0]);
  const instance = {
    studyInstanceUID: study,
    seriesInstanceUID,
    sopInstanceUID: named.SOPInstanceUID,
  };
  const dicom = data.DicomMessage.readFile(await client.retrieveInstance(instance));
  const dataset = data.DicomMetaDictionary.naturalizeDataset(dicom.dict);
  const frames = await client.retrieveInstanceFrames({ ...instance, frameNumbers: [1] });
  const wholeSeries = await client.retrieveSeries({ studyInstanceUID: study, seriesInstanceUID });
  const [rendered] = [await client.retrieveInstanceRendered(instance)].flat();
  process.stdout.write(
    JSON.stringify({
      studies: studies.length,
      series: series.length,
      instances: metadata.length,
      files: wholeSeries.length,
      name: named.PatientName[0],
      rows: named.Rows,
      uid: dataset.SOPInstanceUID,
      pixels: bytes(dataset.PixelData[0] || dataset.PixelData),
      frame: bytes(frames[0]),
      rendered: Buffer.from(rendered).subarray(0, 2).toString("hex"),
    }),
  );
}

main().catch((error) => {
  process.stderr.write(`${error.stack || error.message} ${error.status || ""}\n`);
  process.exit(1);
});
