"""The query service: DICOMweb, and later C-FIND, C-MOVE and C-GET."""
